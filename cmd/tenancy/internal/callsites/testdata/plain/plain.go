// Package plain does not compile.
package plain

var x int = "text"
