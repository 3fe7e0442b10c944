//go:build !linux

package main

import (
	"context"
	"errors"
)

// room is not known on this system.
func (b *bench) room(context.Context) (int64, error) {
	return 0, errors.New("how much room the server's disk has is not known on this system")
}
