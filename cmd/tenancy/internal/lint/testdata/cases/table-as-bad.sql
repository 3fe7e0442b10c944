SET ROLE shop_admin;
CREATE TABLE old_patients AS SELECT * FROM patients; -- want copy-of-rows
