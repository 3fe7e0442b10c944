SET search_path = billing;
UPDATE invoices SET total = 0 WHERE total < 0; -- want data-without-role
