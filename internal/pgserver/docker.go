package pgserver

import (
	"context"
	"errors"
)

func startDocker(context.Context, config) (instance, error) {
	return nil, errors.New("not yet supported")
}
