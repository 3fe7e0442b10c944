SET ROLE shop_admin;
CREATE TABLE scratch AS SELECT * FROM patients;
DROP TABLE scratch;
