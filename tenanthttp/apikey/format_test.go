package apikey_test

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

func TestConfigSaysWhatToChange(t *testing.T) {
	good := func() apikey.Config {
		return apikey.Config{Prefix: "shop", Environment: "live", Peppers: []apikey.Pepper{{Version: 1, Secret: pepper}}, Store: newMemory()}
	}
	_, err := apikey.New(good())
	require.NoError(t, err)
	for says, change := range map[string]func(*apikey.Config){
		"Prefix":      func(c *apikey.Config) { c.Prefix = "Shop_x" },
		"Environment": func(c *apikey.Config) { c.Environment = "" },
		"Store":       func(c *apikey.Config) { c.Store = nil },
		"is empty":    func(c *apikey.Config) { c.Peppers = nil },
		"Peppers[0]":  func(c *apikey.Config) { c.Peppers = []apikey.Pepper{{Secret: []byte("short")}} },
		"Peppers[1]":  func(c *apikey.Config) { c.Peppers = append(c.Peppers, c.Peppers[0]) },
	} {
		config := good()
		change(&config)
		_, err := apikey.New(config)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "short")
	}
}

func TestRedactTakesSecretsOut(t *testing.T) {
	keys := newKeys(t, newMemory())
	key := create(t, keys, "acme")
	cut := strings.LastIndexByte(key, '_') + 1
	secret := key[cut:]
	require.Regexp(t, "^"+apikey.Pattern+"$", key)
	for _, text := range []string{key, "X-Api-Key: " + key + "\n", `{"key":"` + key + `"}`, "k=" + key + "&x=" + key, key[:len(key)-9], strings.ToUpper(key), key + "x"} {
		redacted := apikey.Redact(text)
		require.NotContains(t, strings.ToLower(redacted), secret[:4], text)
		require.Contains(t, redacted, "***")
	}
	require.Equal(t, key[:cut]+"***", apikey.Redact(key), "the id says which key it was")
	for _, text := range []string{"", "snake_case_name", "shop_live_7", "no key here"} {
		require.Equal(t, text, apikey.Redact(text))
	}
	require.False(t, regexp.MustCompile(apikey.Pattern).MatchString("some_very_long_snake_case_identifier"))

	var logged bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{ReplaceAttr: apikey.RedactAttr}))
	logger.Info("got "+key, "header", key, "error", errors.New("bad key "+key), "n", 1, slog.Group("g", "k", key))
	require.NotContains(t, logged.String(), secret)
	require.Equal(t, 4, strings.Count(logged.String(), "***"))
}
