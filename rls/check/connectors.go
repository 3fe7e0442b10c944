package check

import "fmt"

// connector is a library with functions that open a connection from SQL, as any login whose password the caller knows.
type connector struct {
	Name      string
	Functions []string // those that the application may call, with their schemas
	Callers   []string
}

// A function is told by its library and symbol, whatever it is called. Those that take the name of a connection do nothing without one.
var connectorsQuery = `
SELECT json_agg(json_build_object('name', name, 'functions', functions, 'callers', callers))
FROM (
	SELECT 'dblink' AS name, json_agg(DISTINCT p.oid::regprocedure::text) AS functions, json_agg(DISTINCT by.name) AS callers
	FROM pg_proc p
	JOIN pg_namespace n ON n.oid = p.pronamespace
	CROSS JOIN LATERAL json_array_elements_text(` + callers + `) by (name)
	WHERE p.probin LIKE '%dblink%' AND p.prosrc IN ('dblink_connect', 'dblink_record', 'dblink_exec') AND NOT p.prosecdef AND ` + canUse + `
	HAVING count(*) > 0
) found`

func (c connector) String() string { return "functions of " + c.Name }

var connectorRules = []rule[connector]{{
	code: FunctionOpensConnections, severity: High,
	found: func(*checker, connector) bool { return true },
	problem: "They open a connection from SQL, as another login whose password is known or guessed, and to servers that only this one reaches: " +
		"no policy for the application applies to what they show.",
	by: func(c connector) []string { return c.Callers },
	fix: func(_ *checker, c connector) []string {
		steps := []string{asSuperuser}
		for _, function := range c.Functions {
			steps = append(steps, fmt.Sprintf("REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC, %s", function, join(c.Callers)))
		}
		return steps
	},
}}
