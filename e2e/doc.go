// Package e2e tests the built binary: real processes, real links, real files, and what people see.
//
// It owns the harness that starts hubs and agents in directories of their own on loopback, and the rules about the whole
// tree (imports, documents). Nothing imports it. Tests that need what a machine may lack (root, network namespaces, an
// engine) skip by name, or fail when BRUME_TEST_REQUIRE names it.
package e2e
