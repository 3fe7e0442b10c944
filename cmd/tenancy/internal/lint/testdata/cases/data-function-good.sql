CREATE FUNCTION tidy() RETURNS void LANGUAGE sql AS $body$
	UPDATE patients SET email = lower(email);
	DELETE FROM patients WHERE name = '';
$body$;
