package privacy

import (
	"github.com/gormtenancy/tenancy/examples/tasks/internal/flags"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/model"
	"github.com/gormtenancy/tenancy/examples/tasks/internal/roles"
	"github.com/gormtenancy/tenancy/rls/lifecycle"
	"github.com/gormtenancy/tenancy/tenanthttp/apikey"
)

// erased is what stands for a person who was erased.
const erased = "erased"

// holdings are all rows that are about a person, found by the e-mail address. A foreign key to one of these tables that is not here, and a new column
// of a table that keeps its rows, is an error of each run.
func holdings() []lifecycle.Holding {
	subject := func(column string) lifecycle.Link { return lifecycle.Same(column, &model.Member{}, "subject") }
	keep := lifecycle.Keep("not personal")
	return []lifecycle.Holding{
		{Model: &model.Member{}, Link: lifecycle.Key("email"), Erasure: lifecycle.Delete()},
		{Model: &model.Task{}, Link: lifecycle.Reference("assignee_id"), Erasure: lifecycle.Unlink()},
		// The discussion of a task stays, without what the person has said.
		{Model: &model.Comment{}, Link: subject("author"), Erasure: lifecycle.Anonymise(map[string]lifecycle.Value{
			"author": lifecycle.Fixed(erased), "text": lifecycle.Fixed(erased),
			"task_id": keep, "created_at": keep, "updated_at": keep, "deleted_at": keep, "deletion": keep, "version": keep,
		})},
		{Model: &apikey.Key{}, Link: lifecycle.Same("id", &model.Member{}, "key_id"), Erasure: lifecycle.Delete(), Omit: []string{"hash", "pepper"}},
		{Model: &roles.Grant{}, Link: subject("subject"), Erasure: lifecycle.Delete()},
		{Model: &roles.Grant{}, Link: subject("granted_by"), Omit: []string{"subject"}, Erasure: lifecycle.Anonymise(map[string]lifecycle.Value{
			"granted_by": lifecycle.Fixed(erased), "subject": lifecycle.Keep("of another"), "role": keep, "scope": keep, "created_at": keep,
		})},
		{Model: &flags.Override{}, Link: subject("subject"), Erasure: lifecycle.Delete()},
		{Model: &flags.Override{}, Link: subject("set_by"), Omit: []string{"subject"}, Erasure: lifecycle.Anonymise(map[string]lifecycle.Value{
			"set_by": lifecycle.Fixed(erased), "subject": lifecycle.Keep("of another"), "flag": keep, "variant": keep, "percent": keep, "updated_at": keep,
		})},
	}
}
