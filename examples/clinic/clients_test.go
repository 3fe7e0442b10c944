package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/gormtenancy/tenancy"
)

// TestClientKeptForClinicServesNoOther: a client that is kept for a clinic serves one request after another, and never another clinic.
func TestClientKeptForClinicServesNoOther(t *testing.T) {
	s := newDatabase(t)
	clients := newClinicClients(s.db)
	first, over := context.WithCancel(tenancy.WithTenant(t.Context(), 3))
	client, err := clients.of(first)
	require.NoError(t, err)
	require.Equal(t, demoClinics[2], client.clinic)
	over()

	again := tenancy.WithTenant(t.Context(), 3)
	same, err := clients.of(again)
	require.NoError(t, err)
	require.Same(t, client, same)
	plan, err := same.plan(again, startOfDay(time.Now()))
	require.NoError(t, err)
	require.EqualValues(t, patientsEach, plan.Patients)
	for _, a := range plan.Appointments {
		require.EqualValues(t, 3, a.TenantID)
	}

	for name, ctx := range map[string]context.Context{
		"another": tenancy.WithTenant(t.Context(), 1), "none": tenancy.WithoutTenant(t.Context()), "undecided": t.Context(),
	} {
		_, err := client.plan(ctx, time.Now())
		require.ErrorIs(t, err, errOtherClinic, name)
	}
}

// TestKeptClientsAreBounded: there are no more than so many, however many tenants there are.
func TestKeptClientsAreBounded(t *testing.T) {
	s := newDatabase(t)
	clients := newClinicClients(s.db)
	for i := range 2*maxClients + 1 {
		clients.kept[fmt.Sprint("tenant ", i)] = &clinicClient{}
	}
	_, err := clients.of(tenancy.WithTenant(t.Context(), 3))
	require.NoError(t, err)
	require.Len(t, clients.kept, 1)
}

// TestClientWithContextMustNotBeKept shows why clinicClient keeps no context: this is what would happen.
func TestClientWithContextMustNotBeKept(t *testing.T) {
	s := newDatabase(t)
	request, over := context.WithCancel(tenancy.WithTenant(t.Context(), 1))
	kept := s.db.WithContext(request)
	var patients []Patient
	require.NoError(t, kept.Find(&patients).Error)
	over()
	require.ErrorIs(t, kept.Find(&patients).Error, context.Canceled, "it ends with the first request")

	// And if it had no end, it would serve the first request's clinic to every later request.
	kept = s.db.WithContext(context.WithoutCancel(request))
	require.NoError(t, kept.Find(&patients).Error)
	require.EqualValues(t, 1, patients[0].TenantID)
}
