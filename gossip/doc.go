// Package gossip finds the members of a cluster: it puts memberlist behind Join, Members and Events.
//
// It owns the one encrypted pool of hubs and agents, the 64 bytes that a member says of itself, and an in-memory
// network for tests. It discovers and hints; it proves nothing: whoever holds the gossip key can forge the death or
// the words of any member, so callers (the hub and the agent) act on their links and take an Event as a reason to look.
package gossip
