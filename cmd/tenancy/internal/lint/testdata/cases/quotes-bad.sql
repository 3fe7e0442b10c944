/* a ; in a comment /* within */ another; */
CREATE TABLE "Odd;Name" (note text DEFAULT 'it''s; fine', other text DEFAULT E'it\'s;');
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
	EXECUTE $q$UPDATE patients SET name = ''; $q$;
	RETURN NEW;
END
$fn$;
UPDATE patients SET name = E'\';'; UPDATE patients SET email = $$;$$; -- want data-without-role data-without-role
SELECT {{ broken }}; -- want not-read
