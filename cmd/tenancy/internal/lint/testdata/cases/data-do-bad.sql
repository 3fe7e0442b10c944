DO $$
BEGIN
	UPDATE patients SET email = NULL WHERE email = '';
END
$$; -- want -4 data-without-role
