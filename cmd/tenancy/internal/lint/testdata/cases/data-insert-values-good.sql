INSERT INTO plans (id, name) VALUES (1, 'small'), (2, 'large');
INSERT INTO tenants VALUES ('acme', 'Acme');
