// Package sim runs whole clusters in one process: real hubs and agents over networks in memory, with a driver that runs
// nothing. In a testing/synctest bubble time is virtual, so that grace times, back-offs and certificate lives are tested
// at their true values.
//
// It owns the harness (Cluster, Agent, Driver) and the rules that any history of a cluster must keep. It replaces the
// outside world only: wires, Raft's disk, the machine's description and the processes. Tests call it; nothing imports it.
package sim
