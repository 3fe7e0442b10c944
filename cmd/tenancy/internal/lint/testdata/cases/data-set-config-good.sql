SELECT set_config('role', 'shop_admin', true);
DELETE FROM patients WHERE email IS NULL;
