MERGE INTO patients p USING plans s ON p.id = s.id WHEN MATCHED THEN DELETE; -- want data-without-role
