// Package testdb is the fixture of the integration tests: a fresh database with the tables of some models, isolated by
// package rls, and clients of it in every role.
//
//	d := testdb.New(t, &Patient{})
//	db := d.Open(t, tenancy.Config{})                           // the application, with the plugin
//	err := db.WithContext(testdb.As(testdb.Acme)).Create(&Patient{}).Error
//	d.AsOwner(t, "ALTER TABLE patients ADD born date")          // SQL in another role
//	d.AdminDB.Find(&patients)                                   // the rows of all tenants
//
// A test that policies decide runs without keys and with them:
//
//	func TestReport(t *testing.T) { testdb.InBothForms(t, testReport) }
//
// What a function opens is closed with the test, and all errors that are not returned end the test. The test package's
// TestMain calls pgserver.Main.
package testdb
