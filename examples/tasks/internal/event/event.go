// Package event says what has happened to a tenant's rows, to whatever wants to know: webhooks, for example.
package event

import (
	"time"

	"gorm.io/gorm"
)

// Event is a change of a row.
type Event struct {
	// ID is a random UUID, by which a receiver knows an event that it gets twice.
	ID string
	// Type is what has happened, such as "task.created".
	Type string
	At   time.Time
	// Actor is who did it, such as "key:<id>".
	Actor string
	// Payload is the row as the API shows it, to be written as JSON.
	Payload any
}

// A Sink takes events.
type Sink interface {
	// Emit is called in the transaction of the change, for the tenant of the transaction's context: an event is there if and only if the
	// change is. An error rolls the change back. Emit must not wait for anything but the database.
	Emit(tx *gorm.DB, e Event) error
}

// SinkFunc is a function that is a Sink.
type SinkFunc func(tx *gorm.DB, e Event) error

// Emit calls f.
func (f SinkFunc) Emit(tx *gorm.DB, e Event) error { return f(tx, e) }

// Sinks is a Sink that passes events to several, until one fails. The zero value drops them.
type Sinks []Sink

// Emit passes the event to each sink.
func (s Sinks) Emit(tx *gorm.DB, e Event) error {
	for _, sink := range s {
		if err := sink.Emit(tx, e); err != nil {
			return err
		}
	}
	return nil
}
