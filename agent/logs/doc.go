// Package logs moves task output from pipes to rotated files, and reads it back.
//
// It owns the node's one log process (ServeSink, run by `brume logs-sink`), the client by which the agent tells it what to
// collect, the files' layout (`<task>.stdout.N`), and the HTTP handler that serves and follows them. The bytes of one
// stream's files, joined in the order of N, are the stream: every byte once and in order, through a kill of the log
// process at any moment. A disk that stays full costs output, which is dropped and marked, but never the task that wrote it.
//
// It never knows what an allocation or a task is, never makes directories, and trusts nothing in a log directory: tasks
// may write there. The agent makes the pipes, keeps the log process alive and opens its streams again when it was
// restarted; the keeper holds each pipe open meanwhile.
package logs
