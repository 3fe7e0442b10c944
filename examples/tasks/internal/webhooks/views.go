package webhooks

import "time"

// EndpointView is an endpoint as the API shows it. It never has a secret.
type EndpointView struct {
	ID             string     `json:"id" format:"uuid"`
	URL            string     `json:"url" format:"uri"`
	Description    string     `json:"description"`
	Types          []string   `json:"types"`
	Disabled       bool       `json:"disabled"`
	DisabledReason string     `json:"disabled_reason,omitempty"`
	DisabledAt     *time.Time `json:"disabled_at,omitempty"`
	Breaker        string     `json:"breaker" enum:"closed,open,half-open" doc:"While it is open, deliveries wait"`
	FailingSince   *time.Time `json:"failing_since,omitempty" doc:"The first failure since the last success"`
	Version        int64      `json:"version"`
	CreatedAt      time.Time  `json:"created_at"`
}

func viewEndpoint(e Endpoint, b Breaker) EndpointView {
	return EndpointView{
		ID: e.ID, URL: e.URL, Description: e.Description, Types: e.Types, Disabled: e.DisabledAt != nil, DisabledReason: e.DisabledReason,
		DisabledAt: e.DisabledAt, Breaker: b.State(time.Now()), FailingSince: b.FailingSince, Version: e.Version, CreatedAt: e.CreatedAt,
	}
}

// DeliveryView is a delivery as the API shows it.
type DeliveryView struct {
	ID            string     `json:"id" format:"uuid"`
	EventID       string     `json:"event_id" format:"uuid" doc:"The webhook-id of its messages"`
	EventType     string     `json:"event_type"`
	EndpointID    string     `json:"endpoint_id" format:"uuid"`
	Status        string     `json:"status" enum:"pending,delivered,dead"`
	Reason        string     `json:"reason,omitempty" doc:"Why it is dead"`
	Round         int        `json:"round" doc:"How often it was asked for again"`
	Attempts      int        `json:"attempts" doc:"In this round"`
	NextAttemptAt *time.Time `json:"next_attempt_at,omitempty" doc:"While it is pending: not before"`
	DeliveredAt   *time.Time `json:"delivered_at,omitempty"`
	CreatedAt     time.Time  `json:"created_at"`
}

func viewDelivery(d Delivery) DeliveryView {
	view := DeliveryView{
		ID: d.ID, EventID: d.EventID, EndpointID: d.EndpointID, Status: d.Status, Reason: d.Reason, Round: d.Round, Attempts: d.Attempts,
		DeliveredAt: d.DeliveredAt, CreatedAt: d.CreatedAt,
	}
	if d.Event != nil {
		view.EventType = d.Event.Type
	}
	if d.Status == Pending {
		view.NextAttemptAt = &d.NextAttemptAt
	}
	return view
}

// AttemptView is an attempt as the API shows it.
type AttemptView struct {
	ID              string    `json:"id" format:"uuid"`
	Round           int       `json:"round"`
	Number          int       `json:"number"`
	URL             string    `json:"url" doc:"Where the endpoint was at that time"`
	EndpointVersion int64     `json:"endpoint_version"`
	Status          int       `json:"status" doc:"Of the answer; 0 if there was none"`
	Error           string    `json:"error,omitempty"`
	LatencyMS       int64     `json:"latency_ms"`
	Excerpt         string    `json:"excerpt,omitempty" doc:"The beginning of the answer's body"`
	CreatedAt       time.Time `json:"created_at"`
}

func viewAttempt(a Attempt) AttemptView {
	return AttemptView{
		ID: a.ID, Round: a.Round, Number: a.Number, URL: a.URL, EndpointVersion: a.EndpointVersion, Status: a.Status, Error: a.Error,
		LatencyMS: a.LatencyMS, Excerpt: a.Excerpt, CreatedAt: a.CreatedAt,
	}
}
