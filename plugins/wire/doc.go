// Package wire is the plugin protocol: the gRPC services and messages that a host and its driver and device plugins
// exchange, and the constants of the handshake. Services, field numbers and the one message that travels inside an Any
// are those that the existing ecosystem of plugins speaks; they never change. The package holds no logic.
// Package plugins is its only caller.
package wire

//go:generate sh -c "cd .. && go tool -modfile=../tools/go.mod buf generate"
