CREATE FUNCTION tenant_of(key text) RETURNS text
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
	AS $$ SELECT tenant_id FROM patients WHERE email = key; $$;
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
