package sqltext_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/internal/sqltext"
)

func TestCommentLen(t *testing.T) {
	for text, want := range map[string]int{
		"/**/x": 4, "/*/*a*/b*/SELECT": 10, "/*/": 3, "/* ; -- */;": 10, "/*a*/*/": 5, "/*": 2,
	} {
		require.Equal(t, want, sqltext.CommentLen(text), text)
	}
}
