// Package keeper is the one process of a node that holds what must not die with an agent or a plugin: it starts the
// processes of tasks as its own children, learns and keeps how each of them ends, and holds the read ends of the pipes
// that they write their output to. It journals both, so that a keeper started after it was killed knows the processes
// that live on; how those end it can then no longer learn, and says so.
//
// It never decides what runs and knows nothing of jobs. Serve is the whole of its process; plugins/rawexec and the agent
// call it through Client. It imports next to nothing, because its memory is paid on every node.
package keeper
