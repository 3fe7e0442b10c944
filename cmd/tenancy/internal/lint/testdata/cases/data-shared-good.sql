UPDATE plans SET name = lower(name);
DELETE FROM tenants WHERE name = '';
