// Package drivertest is the conformance suite of drivers: what the agent relies on, as tests that an author runs against
// a driver in its process, over gRPC and in a plugin process, and this project against its own drivers.
package drivertest
