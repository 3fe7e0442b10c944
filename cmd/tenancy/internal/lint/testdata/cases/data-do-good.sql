SET LOCAL ROLE shop_admin;
DO $$
BEGIN
	UPDATE patients SET email = NULL WHERE email = '';
END
$$;
