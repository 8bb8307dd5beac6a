// Package taskenv computes what a task sees of its surroundings: its environment, and the values that ${...} stands for
// in its configuration. It is pure: it reads no file, no clock and no process environment. The agent's tasks call it.
package taskenv
