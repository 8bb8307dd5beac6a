// Package api is Brume's one model: the structs that job files decode into, that HTTP carries as JSON, that the Raft log
// and snapshots hold as msgpack, and that the scheduler reads. It also holds the rules that need only the model: defaults
// (NewJob, NewGroup, NewTask), Validate, comparison of versions, and the errors that travel between processes.
//
// It imports nothing of ours, reads no clock and no randomness. JSON names are the Go names; durations are int64
// nanoseconds, as every existing client of this API expects (docs/decisions/0002).
package api

//go:generate go tool -modfile=../tools/go.mod msgp -tests=false -io=false -o model_gen.go -file .

// Only what the Raft log and snapshots hold as a whole has a msgpack form: not the bodies and stubs of HTTP and of the
// link, nor what server/state keeps in compact rows.
//
//msgp:timezone utc
//msgp:ignore regex:(Request|Reply|Response|Stub|Summary|Submission)$
//msgp:ignore regex:^(Alloc(at|Dep|Status)|Hub|Member|RescheduleE|RescheduleT|TaskE|TaskS)
//msgp:ignore Change Error FieldError NodeAllocs PortMapping StatusReport StreamFrame Unbuilt
