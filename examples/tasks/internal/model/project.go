package model

// Project holds tasks.
type Project struct {
	Row
	// Name is unique among the projects of a tenant that live: rls adds the tenant to the index.
	Name string `json:"name" gorm:"not null;uniqueIndex:projects_name,where:deleted_at IS NULL"`
}

// Label marks tasks.
type Label struct {
	Row
	Name string `json:"name" gorm:"not null;uniqueIndex:labels_name,where:deleted_at IS NULL"`
}
