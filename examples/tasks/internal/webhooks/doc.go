// Package webhooks delivers the events of a tenant to the endpoints that the tenant has registered, as Standard Webhooks
// (https://www.standardwebhooks.com) asks: signed, tried again with growing pauses, and with a log of all attempts.
//
// Service.Emit writes an event and a job in the transaction of the change that the event is about: the outbox. A job for the event makes
// one delivery for each endpoint that subscribes to its type, and one job for each delivery sends it. An event is delivered at least once;
// its webhook-id is the same each time, so that a receiver knows it again.
//
// Everything is in tables with a tenant: endpoints, sealed secrets, breakers, events, deliveries, attempts. A job works under the tenant
// that has inserted it (package tenancyriver), so the ids in its arguments find rows of this tenant, or none.
//
// A tenant chooses where requests go, and must not reach what only this server can reach: requests go to public addresses only: see Config.DangerouslyAllowLoopback.
package webhooks
