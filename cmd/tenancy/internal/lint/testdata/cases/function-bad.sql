CREATE FUNCTION tenant_of(key text) RETURNS text
	LANGUAGE sql SECURITY DEFINER
	AS $$ SELECT tenant_id FROM patients WHERE email = key; $$; -- want -2 function-security-definer
