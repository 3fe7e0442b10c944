package webhooks

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSecretRotationOverlaps: until a stated time messages have signatures of both secrets, then of the new one alone.
func TestSecretRotationOverlaps(t *testing.T) {
	f := newFixture(t, testConfig())
	r := newReceiver(t)
	endpoint, old := f.endpoint(t, acme, r.URL)
	f.work(t)
	tx := f.db.WithContext(as(acme))
	send := func() received {
		f.waitFor(t, f.emit(t, acme, "task.created", nil), Delivered)
		all := r.all()
		return all[len(all)-1]
	}
	fresh, until, err := f.service.Rotate(tx, endpoint.ID, time.Hour)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), until, time.Minute)
	both := send()
	require.NoError(t, both.verify(old))
	require.NoError(t, both.verify(fresh))
	require.Len(t, strings.Fields(both.header.Get("webhook-signature")), 2)

	require.NoError(t, f.admin.Model(&Secret{}).Where("expires_at IS NOT NULL").Update("expires_at", time.Now()).Error)
	after := send()
	require.Error(t, after.verify(old))
	require.NoError(t, after.verify(fresh))

	known := fresh // it has become known: it ends at once
	fresh, _, err = f.service.Rotate(tx, endpoint.ID, 0)
	require.NoError(t, err)
	atOnce := send()
	require.Error(t, atOnce.verify(known))
	require.NoError(t, atOnce.verify(fresh))
	var rows int64
	require.NoError(t, f.admin.Model(&Secret{}).Count(&rows).Error)
	require.EqualValues(t, 1, rows, "secrets that have ended are deleted")

	var secrets [10]string
	for i := range secrets {
		secrets[i], _, err = f.service.Rotate(tx, endpoint.ID, MaxOverlap)
		require.NoError(t, err)
	}
	require.NoError(t, f.admin.Model(&Secret{}).Count(&rows).Error)
	require.EqualValues(t, maxSecrets, rows)
	last := send()
	for i, secret := range secrets {
		require.Equal(t, i >= len(secrets)-maxSecrets, last.verify(secret) == nil, i)
	}
}

// TestSecretIsNeitherStoredNorLogged in the clear, and opens in its own row only.
func TestSecretIsNeitherStoredNorLogged(t *testing.T) {
	var log bytes.Buffer
	config := testConfig()
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	f := newFixture(t, config)
	r := newReceiver(t)
	endpoint, secret := f.endpoint(t, acme, r.URL)
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	require.NoError(t, err)
	require.Len(t, key, 32)
	_, stop := f.work(t)
	f.waitFor(t, f.emit(t, acme, "task.created", nil), Delivered)

	var dump strings.Builder // of all tables
	for _, table := range []string{"webhook_endpoints", "webhook_secrets", "webhook_events", "webhook_deliveries", "webhook_attempts", "webhook_breakers", "river_job"} {
		var rows []string
		require.NoError(t, f.admin.Raw("SELECT r::text FROM "+table+" r").Scan(&rows).Error)
		require.NotEmpty(t, rows, table)
		dump.WriteString(strings.Join(rows, "\n"))
	}
	for _, text := range []string{strings.TrimPrefix(secret, secretPrefix), fmt.Sprintf("%x", key)} {
		require.NotContains(t, dump.String(), text)
		require.NotContains(t, log.String(), text)
	}

	var row Secret
	require.NoError(t, f.admin.Take(&row).Error)
	opened, err := f.service.keys.open(row)
	require.NoError(t, err)
	require.Equal(t, key, opened)
	for _, change := range []func(*Secret){
		func(s *Secret) { s.TenantID = globex }, func(s *Secret) { s.EndpointID = newID() }, func(s *Secret) { s.ID = newID() },
		func(s *Secret) { s.Sealed = append(bytes.Clone(s.Sealed), 0) },
	} {
		moved := row
		change(&moved)
		_, err := f.service.keys.open(moved)
		require.ErrorIs(t, err, errSealed)
	}

	// A new key in front opens what the old one has sealed, and a key that is gone stops the delivery, and says so.
	stop()
	config.Keys = [][]byte{bytes.Repeat([]byte{1}, 32), config.Keys[0]}
	f.service = newService(t, f.db, config)
	_, stop = f.work(t)
	f.waitFor(t, f.emit(t, acme, "task.created", nil), Delivered)
	stop()
	config.Keys = config.Keys[:1]
	f.service = newService(t, f.db, config)
	f.work(t)
	d := f.waitFor(t, f.emit(t, acme, "task.created", nil), Dead)
	require.Contains(t, d.Reason, "rotate the secret")
	require.Contains(t, log.String(), "cannot sign")
	_, _, err = f.service.Rotate(f.db.WithContext(as(acme)), endpoint.ID, 0)
	require.NoError(t, err)
	r.answer(status(http.StatusOK))
	f.waitFor(t, f.emit(t, acme, "task.created", nil), Delivered)
}

// TestConfigIsChecked: without a key, secrets would be stored in the clear.
func TestConfigIsChecked(t *testing.T) {
	for _, change := range []func(*Config){
		func(c *Config) { c.Keys = nil }, func(c *Config) { c.Keys = [][]byte{make([]byte, 16)} }, func(c *Config) { c.Timeout = -1 },
		func(c *Config) { c.Schedule = []time.Duration{0} },
	} {
		config := testConfig()
		change(&config)
		_, err := makeService(nil, config)
		require.Error(t, err)
	}
	var log bytes.Buffer
	config := testConfig()
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	newService(t, nil, config)
	require.Contains(t, log.String(), "DANGEROUS")
	log.Reset()
	config.DangerouslyAllowLoopback = false
	newService(t, nil, config)
	require.Empty(t, log.String())
}
