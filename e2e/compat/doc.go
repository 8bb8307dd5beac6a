// Package compat holds the HTTP API against the public Go client of the ecosystem, in a module of its own: the product
// never imports that client. Nothing imports this package.
package compat
