package main

import (
	"net/http"

	"gorm.io/gorm"
)

// allPatients lists the patients of all clinics.
func (a *app) allPatients(w http.ResponseWriter, r *http.Request) error {
	var list patientList
	err := a.bypass(r, "patients of all clinics", func(db *gorm.DB) (err error) {
		list, err = findPatients(db.Joins("Clinic").Session(&gorm.Session{}), r)
		return err
	})
	if err != nil {
		return err
	}
	return a.render(w, r, http.StatusOK, "admin", view{Title: "All clinics", Nav: "admin", Body: list})
}
