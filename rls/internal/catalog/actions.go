package catalog

// actions are the actions of foreign keys as SQL writes them, by the letters of the catalog (pg_constraint.confdeltype).
var actions = map[string]string{"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}

// Action returns the action of a letter as SQL writes it.
func Action(code string) string { return actions[code] }

// ActionCode returns the letter of an action. Without one, a foreign key has NO ACTION.
func ActionCode(action string) string {
	if action == "" {
		action = "NO ACTION"
	}
	for code, name := range actions {
		if name == action {
			return code
		}
	}
	return ""
}
