// Package plugins is the SDK of drivers, both ends of it. An author implements Driver, adds the optional interfaces
// that apply, and calls Serve from main. A host calls Launch, configures the Instance that it gets, and runs tasks
// through the Instance's Client; InProcess gives the same Client over a Driver in the same process.
//
// The package owns the translation between its plain structs and package wire, the schemas of configuration, the
// lifetime of plugin processes and the relay of their logs. It never decides what runs: the agent does.
package plugins
