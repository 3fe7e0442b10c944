package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestErrorsOfADSNShowNothingOfIt(t *testing.T) {
	const secret = "hunter2"
	for _, dsn := range []string{
		"postgres://u:" + secret + "/x@h/db",
		"postgres://u:1/" + secret + "@h/db",
		"postgres://u:1?" + secret + "@h/db",
		"postgres://u:1#" + secret + "@h/db",
		"postgres://u:x@" + secret + "@h/db",
		"postgres://u:x@" + secret + "@h",
		"postgres://u:x@1/" + secret + "@h/db",
		"postgres://u:%zz" + secret + "@h/db",
		"postgres://u:" + secret + "@h:port/db",
		"postgres://u:" + secret + "@h/db?sslmode=nonsense",
		"postgres://u:" + secret + "@h/db?sslrootcert=/no/such/" + secret,
		"host=h password='" + secret,
		"host=h password=my " + secret,
		"host=h password=" + secret + " port=" + secret,
		secret,
		"//u:" + secret + "@h",
	} {
		_, err := parseDSN(dsn, "--dsn")
		require.Error(t, err, dsn)
		require.ErrorContains(t, err, "--dsn")
		require.NotContains(t, err.Error(), secret, dsn)
	}
}

func TestDSN(t *testing.T) {
	config, err := parseDSN("postgres://u:p%40ss@h/db", "--dsn")
	require.NoError(t, err)
	require.Equal(t, "p@ss", config.Password)
	require.Equal(t, connectTimeout, config.ConnectTimeout)
	require.Equal(t, "tenancy", config.RuntimeParams["application_name"])

	config, err = parseDSN("host=h user=u@tenant password=p@s/s connect_timeout=3 application_name=x", "--dsn")
	require.NoError(t, err)
	require.Equal(t, "p@s/s", config.Password)
	require.EqualValues(t, 3e9, config.ConnectTimeout)
	require.Equal(t, "x", config.RuntimeParams["application_name"])
}
