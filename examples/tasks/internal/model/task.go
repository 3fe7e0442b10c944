package model

import "time"

// The states of a task.
const (
	Open = "open"
	Done = "done"
)

// Task belongs to a project. Its foreign key includes the tenant, as all between tenant tables do: rls sees to that.
type Task struct {
	Row
	ProjectID string     `json:"project_id" gorm:"type:uuid;not null;index" format:"uuid"`
	Project   *Project   `json:"-" gorm:"constraint:OnDelete:CASCADE"`
	Title     string     `json:"title" gorm:"not null"`
	Status    string     `json:"status" gorm:"not null;default:open" enum:"open,done"`
	DueAt     *time.Time `json:"due_at,omitempty"`
	// AssigneeID is the member who does it.
	AssigneeID *string `json:"assignee_id,omitempty" gorm:"type:uuid;index" format:"uuid"`
	Assignee   *Member `json:"-"`
	Labels     []Label `json:"labels,omitempty" gorm:"many2many:task_labels;constraint:OnDelete:CASCADE"`
}

// Comment belongs to a task.
type Comment struct {
	Row
	TaskID string `json:"task_id" gorm:"type:uuid;not null;index" format:"uuid"`
	Task   *Task  `json:"-" gorm:"constraint:OnDelete:CASCADE"`
	Author string `json:"author" gorm:"not null" doc:"Who wrote it, such as key:<id>"`
	Text   string `json:"text" gorm:"not null"`
}

// Attachment describes a file of a task. The file is kept elsewhere.
type Attachment struct {
	Row
	TaskID      string `json:"task_id" gorm:"type:uuid;not null;index" format:"uuid"`
	Task        *Task  `json:"-" gorm:"constraint:OnDelete:CASCADE"`
	Name        string `json:"name" gorm:"not null"`
	ContentType string `json:"content_type" gorm:"not null"`
	Size        int64  `json:"size" gorm:"not null" doc:"In bytes"`
	SHA256      string `json:"sha256" gorm:"column:sha256;not null" doc:"Of the file, in hexadecimal"`
}
