WITH patients AS (SELECT 1 AS id) UPDATE plans SET name = 'x' FROM patients WHERE patients.id = plans.id;
