package statements

const moreColumns = "name"
