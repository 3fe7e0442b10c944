// Package client is a client of the API, generated from its OpenAPI document. A test of package app walks through the product with it, and fails
// when the routes have changed and the client has not.
package client

//go:generate go run ../internal/clientgen/generate
