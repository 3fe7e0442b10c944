package app

import (
	"time"

	"gorm.io/gorm"
)

// The models of a trading company's software. Countries, currencies and subscriptions are shared by all tenants.
type (
	Country struct {
		Code string `gorm:"primaryKey;size:2"`
		Name string `gorm:"not null;unique"`
	}

	Currency struct {
		Code      string    `gorm:"primaryKey;size:3"`
		Countries []Country `gorm:"many2many:currency_countries"`
	}

	// Subscription is read before the tenant of a request is known.
	Subscription struct {
		ID       int64
		TenantID string
		Host     string `gorm:"uniqueIndex"`
	}

	// Owned is in every model of a tenant.
	Owned struct {
		TenantID  string `gorm:"not null"`
		CreatedAt time.Time
		UpdatedAt time.Time
	}

	Person struct {
		ID int64
		Owned
		Email     string `gorm:"not null;unique"`
		DeletedAt gorm.DeletedAt
		ManagerID *int64
		Manager   *Person  `gorm:"constraint:OnDelete:SET NULL"`
		Reports   []Person `gorm:"foreignKey:ManagerID"`
		Teams     []Team   `gorm:"many2many:memberships"`
	}

	Team struct {
		ID int64
		Owned
		Name    string   `gorm:"uniqueIndex"`
		Members []Person `gorm:"many2many:memberships"`
	}

	// Membership is the join table's own model.
	Membership struct {
		PersonID int64 `gorm:"primaryKey"`
		TeamID   int64 `gorm:"primaryKey"`
		Role     string
	}

	Customer struct {
		gorm.Model
		TenantID    string `gorm:"index:idx_customers_name,priority:1"`
		Number      string `gorm:"uniqueIndex:idx_customers_number,where:deleted_at IS NULL"`
		Name        string `gorm:"index:idx_customers_name,priority:2"`
		CountryCode *string
		Country     *Country
		Orders      []Order   `gorm:"constraint:OnDelete:CASCADE"`
		Addresses   []Address `gorm:"polymorphic:Owner"`
		Tags        []Tag     `gorm:"many2many:customer_tags"`
	}

	Supplier struct {
		ID int64
		Owned
		Name     string
		Address  Address   `gorm:"polymorphic:Owner"`
		Products []Product `gorm:"many2many:supplier_products"`
	}

	Address struct {
		ID int64
		Owned
		OwnerID   int64
		OwnerType string
		City      string
	}

	// Category is a tree.
	Category struct {
		ID       int64
		TenantID string
		Name     string `gorm:"uniqueIndex:idx_categories_name,priority:2"`
		ParentID *int64 `gorm:"uniqueIndex:idx_categories_name,priority:1"`
		Parent   *Category
		Children []Category `gorm:"foreignKey:ParentID;constraint:OnDelete:CASCADE"`
	}

	// Product has the tenant in its primary key.
	Product struct {
		TenantID   string `gorm:"primaryKey"`
		SKU        string `gorm:"primaryKey"`
		CategoryID *int64
		Category   *Category `gorm:"constraint:OnDelete:SET NULL"`
		Price      Money     `gorm:"embedded;embeddedPrefix:price_"`
		Tags       []Tag     `gorm:"many2many:product_tags"`
	}

	Money struct {
		Amount       int64
		CurrencyCode *string
		Currency     *Currency
	}

	Order struct {
		ID int64
		Owned
		Reference  string `gorm:"uniqueIndex"`
		CustomerID *uint
		Customer   *Customer
		PlacedByID *int64
		PlacedBy   *Person
		Lines      []OrderLine `gorm:"constraint:OnDelete:CASCADE"`
		Invoice    *Invoice    `gorm:"constraint:OnUpdate:CASCADE,OnDelete:RESTRICT"`
		Notes      []Note      `gorm:"polymorphic:Subject;polymorphicValue:order"`
		Tags       []Tag       `gorm:"many2many:order_tags"`
	}

	OrderLine struct {
		TenantID   string `gorm:"primaryKey"`
		OrderID    int64  `gorm:"primaryKey;autoIncrement:false"`
		Number     int    `gorm:"primaryKey;autoIncrement:false"`
		ProductSKU string
		Product    *Product `gorm:"foreignKey:TenantID,ProductSKU;references:TenantID,SKU"`
		Quantity   int      `gorm:"check:quantity > 0"`
	}

	Invoice struct {
		ID string `gorm:"type:uuid;default:gen_random_uuid()"`
		Owned
		Number   int `gorm:"uniqueIndex"`
		OrderID  int64
		Payments []Payment
		Notes    []Note `gorm:"polymorphic:Subject;polymorphicValue:invoice"`
	}

	// Payment refers to the number of an invoice, which is not its primary key.
	Payment struct {
		ID int64
		Owned
		InvoiceID     string `gorm:"type:uuid"`
		InvoiceNumber int
		Numbered      *Invoice `gorm:"foreignKey:InvoiceNumber;references:Number"`
		Amount        int64
	}

	Note struct {
		ID int64
		Owned
		SubjectID   string
		SubjectType string
		AuthorID    *int64
		Author      *Person
		Text        string
	}

	Tag struct {
		ID int64
		Owned
		Label string `gorm:"uniqueIndex:,expression:lower(label)"`
	}

	// Setting has no key but the tenant's.
	Setting struct {
		TenantID string `gorm:"primaryKey"`
		Theme    string
	}

	// Log has no primary key.
	Log struct {
		TenantID string
		At       time.Time `gorm:"index"`
		What     string
	}
)

// TenantShared says that subscriptions belong to no tenant.
func (Subscription) TenantShared() {}

var models = []any{
	&Country{}, &Currency{}, &Subscription{}, &Person{}, &Team{}, &Membership{}, &Customer{}, &Supplier{}, &Address{}, &Category{},
	&Product{}, &Order{}, &OrderLine{}, &Invoice{}, &Payment{}, &Note{}, &Tag{}, &Setting{}, &Log{},
}
