package rls

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"
)

// TestRetryLoggerHidesValues where the application's logger does, at each level.
func TestRetryLoggerHidesValues(t *testing.T) {
	for _, hides := range []bool{true, false} {
		var l logger.Interface = retryLogger{logger.New(nil, logger.Config{ParameterizedQueries: hides}), &lastWait{}}
		for range 2 {
			sql, values := l.(gorm.ParamsFilter).ParamsFilter(context.Background(), "SELECT $1", "secret")
			require.Equal(t, "SELECT $1", sql)
			require.Equal(t, hides, len(values) == 0)
			l = l.LogMode(logger.Info)
			require.IsType(t, retryLogger{}, l)
		}
	}
}
