package signing

import (
	"bytes"
	"testing"
	"time"
)

// FuzzMessageIsUnambiguous: claims that differ are signed as texts that differ.
func FuzzMessageIsUnambiguous(f *testing.F) {
	f.Add("app.t", "a", "bc", uint32(1), "app.t", "ab", "c", uint32(1))
	f.Add("app.t", "app", "1|1", uint32(0), "app.t", "app1", "|1", uint32(0))
	f.Add("a", "1|1|a", "x", uint32(1), "a", "a", "x", uint32(11))
	f.Add("a", "", "x", uint32(0), "", "a", "x", uint32(0))
	head := []byte("1tp17000000001700000600one")
	f.Fuzz(func(t *testing.T, setting, login, tenant string, process uint32, setting2, login2, tenant2 string, process2 uint32) {
		a := Claims{Setting: setting, Login: login, Tenant: tenant, Process: process}
		b := Claims{Setting: setting2, Login: login2, Tenant: tenant2, Process: process2}
		if (a == b) != bytes.Equal(a.message(head), b.message(head)) {
			t.Errorf("%+v and %+v", a, b)
		}
	})
}

// TestProofIsShort enough for what PostgreSQL accepts, whatever is signed.
func TestProofIsShort(t *testing.T) {
	t.Parallel()
	k := newKey(t, "abcdefghijklmnopqrstuvwxyz012345", time.Time{})
	year2286 := time.Unix(9_999_999_999, 0).Add(-Skew)
	proof := k.Proof(Claims{
		Kind: Tenant, Setting: "app.tenant_id", Tenant: string(make([]byte, 1024)), Login: "app",
		Process: 1<<32 - 1, Issued: year2286, Expires: year2286,
	})
	if len(proof) > 128 || !bytes.HasSuffix(proof, []byte("1tp99999999999999999999"+k.ID())) {
		t.Error(len(proof), string(proof))
	}
}
