package callsites

import (
	"go/ast"
	"go/types"
	"strings"
)

const gormPath = "gorm.io/gorm"

// sends are the methods of *gorm.DB that send SQL. Migrator returns one whose methods do.
var sends = set("Create", "CreateInBatches", "Save", "First", "Take", "Last", "Find", "FindInBatches", "FirstOrInit", "FirstOrCreate",
	"Update", "Updates", "UpdateColumn", "UpdateColumns", "Delete", "Count", "Row", "Rows", "Scan", "Pluck", "Connection", "Transaction",
	"Begin", "Exec", "AutoMigrate", "Migrator")

// associationSends are the methods of *gorm.Association that do.
var associationSends = set("Find", "Append", "Replace", "Delete", "Clear", "Count")

// hands are the methods that hand a *gorm.DB of their own to a function.
var hands = set("Transaction", "Connection", "FindInBatches", "Scopes")

// hooks are the methods of a model that GORM calls.
var hooks = set("BeforeCreate", "AfterCreate", "BeforeUpdate", "AfterUpdate", "BeforeSave", "AfterSave", "BeforeDelete", "AfterDelete", "AfterFind")

func set(names ...string) map[string]bool {
	s := map[string]bool{}
	for _, name := range names {
		s[name] = true
	}
	return s
}

// isNamed reports whether a type, or what it points to, is the named one.
func isNamed(t types.Type, path, name string) bool {
	if pointer, ok := types.Unalias(t).(*types.Pointer); ok {
		t = pointer.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok {
		return false
	}
	obj := named.Obj()
	return obj.Name() == name && obj.Pkg() != nil && unvendored(obj.Pkg().Path()) == path
}

// unvendored is a package's path without that of a vendor folder.
func unvendored(path string) string {
	if i := strings.LastIndex(path, "/vendor/"); i >= 0 {
		return path[i+len("/vendor/"):]
	}
	return path
}

func isDB(t types.Type) bool { return t != nil && isNamed(t, gormPath, "DB") }

func isContext(t types.Type) bool { return isNamed(t, "context", "Context") }

// followed reports whether values of a type are followed: a *gorm.DB, a function, and what holds them.
func followed(t types.Type) bool {
	if t == nil {
		return false
	}
	if isDB(t) {
		return true
	}
	switch u := t.Underlying().(type) {
	case *types.Signature:
		return true
	case *types.Pointer:
		return followed(u.Elem())
	case *types.Slice:
		return followed(u.Elem())
	case *types.Array:
		return followed(u.Elem())
	case *types.Map:
		return followed(u.Elem())
	case *types.Chan:
		return followed(u.Elem())
	}
	return false
}

// sessionContext returns the expression of the context that a call of Session sets, if it sets one.
func sessionContext(call *ast.CallExpr) ast.Expr {
	if len(call.Args) != 1 {
		return nil
	}
	arg := ast.Unparen(call.Args[0])
	if u, ok := arg.(*ast.UnaryExpr); ok {
		arg = ast.Unparen(u.X)
	}
	literal, ok := arg.(*ast.CompositeLit)
	if !ok {
		return nil
	}
	for _, element := range literal.Elts {
		if kv, ok := element.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == "Context" {
				return kv.Value
			}
		}
	}
	return nil
}
