package api

// signals are the names that a task's kill_signal may have. Whether a node knows one is for its driver to say.
var signals = map[string]bool{
	"SIGABRT": true, "SIGALRM": true, "SIGBUS": true, "SIGCHLD": true, "SIGCONT": true, "SIGFPE": true, "SIGHUP": true,
	"SIGILL": true, "SIGINT": true, "SIGIO": true, "SIGIOT": true, "SIGKILL": true, "SIGPIPE": true, "SIGPROF": true,
	"SIGPWR": true, "SIGQUIT": true, "SIGRTMIN": true, "SIGRTMAX": true, "SIGSEGV": true, "SIGSTKFLT": true,
	"SIGSTOP": true, "SIGSYS": true, "SIGTERM": true, "SIGTRAP": true, "SIGTSTP": true, "SIGTTIN": true, "SIGTTOU": true,
	"SIGURG": true, "SIGUSR1": true, "SIGUSR2": true, "SIGVTALRM": true, "SIGWINCH": true, "SIGXCPU": true, "SIGXFSZ": true,
}
