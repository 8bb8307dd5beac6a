package api

// Names that existing clients, job files and plugins depend on. They are wire data, not names of ours.
const (
	// CompatVersion stands wherever a client gates a feature on a version.
	CompatVersion = "1.11.0"

	HeaderIndex       = "X-Nomad-Index"
	HeaderKnownLeader = "X-Nomad-KnownLeader"
	HeaderLastContact = "X-Nomad-LastContact"
	HeaderNextToken   = "X-Nomad-NextToken"
	HeaderToken       = "X-Nomad-Token"

	// HeaderError carries the kind of an error: not-found, invalid, conflict, denied, no-leader.
	HeaderError = "X-Brume-Error"

	// EnvPrefix begins every variable that a task gets.
	EnvPrefix = "NOMAD_"
	// EnvVarPrefix begins environment variables that set a job file's variables.
	EnvVarPrefix = "NOMAD_VAR_"

	// AttrCompatVersion and AttrServiceDiscovery are node attributes that clients put in implicit constraints.
	AttrCompatVersion    = "nomad.version"
	AttrServiceDiscovery = "nomad.service_discovery"

	// HubServerName and AgentServerName are in hub certificates beside their own names: public clients ask for them.
	HubServerName   = "server.global.nomad"
	AgentServerName = "client.global.nomad"
)

// Defaults of places and names.
const (
	DefaultRegion     = "global"
	DefaultDatacenter = "dc1"
	DefaultNamespace  = "default"
	DefaultNodePool   = "default"
	AllNamespaces     = "*"

	MinDynamicPort = 20000
	MaxDynamicPort = 32000
)

// TextEnterpriseOnly is how servers of this API refuse what only a paid edition does; clients match it.
const TextEnterpriseOnly = "Nomad Enterprise only endpoint"

// MemberRoleHub is the role by which clients find hubs among the gossip members.
const MemberRoleHub = "nomad"
