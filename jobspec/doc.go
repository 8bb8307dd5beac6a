// Package jobspec turns the text of a job file into an api.Job: HCL with variables, locals, dynamic blocks, expressions
// and functions. Text that only a node can fill in (`${attr.kernel.name}`, `${NOMAD_PORT_http}`) is left as it is.
//
// Nothing is ignored in silence: a name that is known and not built yet, a name that is unknown and a block that is
// repeated are errors with their position, and all errors of a file are reported at once. The job that Parse returns
// has its defaults and is valid.
//
// It reads no files but those that functions such as file() name, if the caller allows that, and never talks to a hub.
// The CLI calls it for files, the hub for /v1/jobs/parse.
package jobspec
