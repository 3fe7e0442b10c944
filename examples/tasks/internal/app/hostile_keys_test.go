package app

import (
	"net/http"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/examples/tasks/internal/api"
)

// keyring are keys of the attacker's tenant that may not do what is tried with them.
type keyring struct{ revoked, expired, scopeless, roleless string }

// keys makes them once.
func (h *hostile) keys() keyring {
	h.once.Do(func() {
		p, all := h.attacker, api.Scopes
		key := func(more object) (id, text string) {
			body := object{"name": fresh(), "scopes": all}
			for name, value := range more {
				body[name] = value
			}
			made := p.want(http.StatusCreated, http.MethodPost, "/v1/keys", body)
			p.want(http.StatusNoContent, http.MethodPost, "/v1/roles", object{"subject": "key:" + made.id(), "role": "owner"})
			h.secret(made.body["key"].(string))
			return made.id(), made.body["key"].(string)
		}
		id, text := key(nil)
		h.ring.revoked = text
		p.want(http.StatusNoContent, http.MethodDelete, "/v1/keys/"+id, nil)
		_, h.ring.expired = key(object{"expires_at": time.Now().Add(300 * time.Millisecond)})
		_, h.ring.scopeless = key(object{"scopes": []string{"privacy:write"}})
		id, h.ring.roleless = key(nil)
		p.want(http.StatusNoContent, http.MethodDelete, "/v1/roles?role=owner&subject=key:"+id, nil)
		require.Eventually(h.t, func() bool {
			return client{h.t, h.handler, h.ring.expired}.do(http.MethodGet, "/v1/tasks", nil).status == http.StatusUnauthorized
		}, time.Minute, 10*time.Millisecond)
	})
	return h.ring
}
