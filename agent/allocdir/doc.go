// Package allocdir makes and removes the directories of allocations, in the layout that drivers expect. Tasks can write
// in some of them, so everything below an allocation's directory is opened through an os.Root: a link that a task left
// there leads nowhere else. The agent calls it.
package allocdir
