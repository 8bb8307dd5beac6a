package wire

// The handshake by which a plugin knows that a host starts it, and by which host and plugin agree on a version.
const (
	// CookieKey and CookieValue are in the environment of each plugin. They are a courtesy to a person who starts a
	// plugin by hand, not a secret.
	CookieKey   = "NOMAD_PLUGIN_MAGIC_COOKIE"
	CookieValue = "e4327c2e01eabfd75a8a67adb114fb34a757d57eee7728d857a8cec6e91a7255"

	// ProtocolVersion is the application protocol's version in go-plugin's handshake line.
	ProtocolVersion = 2

	// APIVersion is the one version of the services that is spoken; a plugin lists those it knows.
	APIVersion = "v0.1.0"

	// BaseSet, DriverSet and DeviceSet name the go-plugin sets that a plugin serves.
	BaseSet   = "base"
	DriverSet = "driver"
	DeviceSet = "device"

	// TaskNotFound is in the text of the error that drivers answer for a task that they do not know.
	TaskNotFound = "task not found for given id"
)
