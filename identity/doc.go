// Package identity says who a member of the cluster is and proves it.
//
// It owns node keys (Ed25519), the cluster's certificate authority, the certificates that it grants, join tokens, the
// cluster key that seals secrets, and the TLS configurations made of these. It never talks to the network, keeps no
// state beyond the files it is told to write, and decides no policy: lifetimes, names and who may join come from the
// caller. The hub, the agent and package link call it.
package identity
